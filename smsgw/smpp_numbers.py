"""The numbers of SMPP: commands, statuses, TLV tags, message states, and their names.

Plain integers, because they are compared for every PDU. SMPP 3.4, 5.1.2.1, 5.1.3, 5.3.2; SMPP 5.0, 4.7.5, 4.8.1.
"""

from __future__ import annotations

from typing import Final, NamedTuple

# ---- commands

GENERIC_NACK: Final = 0x8000_0000
BIND_RECEIVER: Final = 0x0000_0001
BIND_RECEIVER_RESP: Final = 0x8000_0001
BIND_TRANSMITTER: Final = 0x0000_0002
BIND_TRANSMITTER_RESP: Final = 0x8000_0002
QUERY_SM: Final = 0x0000_0003
QUERY_SM_RESP: Final = 0x8000_0003
SUBMIT_SM: Final = 0x0000_0004
SUBMIT_SM_RESP: Final = 0x8000_0004
DELIVER_SM: Final = 0x0000_0005
DELIVER_SM_RESP: Final = 0x8000_0005
UNBIND: Final = 0x0000_0006
UNBIND_RESP: Final = 0x8000_0006
REPLACE_SM: Final = 0x0000_0007
REPLACE_SM_RESP: Final = 0x8000_0007
CANCEL_SM: Final = 0x0000_0008
CANCEL_SM_RESP: Final = 0x8000_0008
BIND_TRANSCEIVER: Final = 0x0000_0009
BIND_TRANSCEIVER_RESP: Final = 0x8000_0009
OUTBIND: Final = 0x0000_000B
ENQUIRE_LINK: Final = 0x0000_0015
ENQUIRE_LINK_RESP: Final = 0x8000_0015
SUBMIT_MULTI: Final = 0x0000_0021
SUBMIT_MULTI_RESP: Final = 0x8000_0021
ALERT_NOTIFICATION: Final = 0x0000_0102
DATA_SM: Final = 0x0000_0103
DATA_SM_RESP: Final = 0x8000_0103
BROADCAST_SM: Final = 0x0000_0111  # SMPP 5.0
BROADCAST_SM_RESP: Final = 0x8000_0111
QUERY_BROADCAST_SM: Final = 0x0000_0112
QUERY_BROADCAST_SM_RESP: Final = 0x8000_0112
CANCEL_BROADCAST_SM: Final = 0x0000_0113
CANCEL_BROADCAST_SM_RESP: Final = 0x8000_0113

# ---- statuses that the code decides by; STATUSES names them all

ROK: Final = 0x00
RINVMSGLEN: Final = 0x01
RINVCMDLEN: Final = 0x02
RINVCMDID: Final = 0x03
RSYSERR: Final = 0x08
RINVSRCADR: Final = 0x0A
RINVDSTADR: Final = 0x0B
RBINDFAIL: Final = 0x0D
RINVPASWD: Final = 0x0E
RINVSYSID: Final = 0x0F
RMSGQFUL: Final = 0x14
RINVSERTYP: Final = 0x15
RTHROTTLED: Final = 0x58
RINVSCHED: Final = 0x61
RINVEXPIRY: Final = 0x62
RX_T_APPN: Final = 0x64  # ours to give: the database is away, deliver it again
RINVOPTPARSTREAM: Final = 0xC0
RINVPARLEN: Final = 0xC2
RUNKNOWNERR: Final = 0xFF


class Status(NamedTuple):
    """What a command_status is called, and what it means to somebody who reads the link table."""

    name: str
    meaning: str


STATUSES: Final[dict[int, Status]] = {
    0x00: Status("ESME_ROK", "no error"),
    0x01: Status("ESME_RINVMSGLEN", "the message length is invalid"),
    0x02: Status("ESME_RINVCMDLEN", "the command length is invalid"),
    0x03: Status("ESME_RINVCMDID", "the command is not known"),
    0x04: Status("ESME_RINVBNDSTS", "the command does not fit the state of the bind"),
    0x05: Status("ESME_RALYBND", "already bound"),
    0x06: Status("ESME_RINVPRTFLG", "the priority flag is invalid"),
    0x07: Status("ESME_RINVREGDLVFLG", "the registered delivery flag is invalid"),
    0x08: Status("ESME_RSYSERR", "system error"),
    0x0A: Status("ESME_RINVSRCADR", "the source address is invalid"),
    0x0B: Status("ESME_RINVDSTADR", "the destination address is invalid"),
    0x0C: Status("ESME_RINVMSGID", "the message id is invalid"),
    0x0D: Status("ESME_RBINDFAIL", "bind failed"),
    0x0E: Status("ESME_RINVPASWD", "the password is wrong"),
    0x0F: Status("ESME_RINVSYSID", "the system id is wrong"),
    0x11: Status("ESME_RCANCELFAIL", "cancel_sm failed"),
    0x13: Status("ESME_RREPLACEFAIL", "replace_sm failed"),
    0x14: Status("ESME_RMSGQFUL", "the message queue is full"),
    0x15: Status("ESME_RINVSERTYP", "the service type is invalid"),
    0x33: Status("ESME_RINVNUMDESTS", "the number of destinations is invalid"),
    0x34: Status("ESME_RINVDLNAME", "the distribution list is invalid"),
    0x40: Status("ESME_RINVDESTFLAG", "the destination flag is invalid"),
    0x42: Status("ESME_RINVSUBREP", "submit with replace is invalid"),
    0x43: Status("ESME_RINVESMCLASS", "the esm_class is invalid"),
    0x44: Status("ESME_RCNTSUBDL", "cannot submit to the distribution list"),
    0x45: Status("ESME_RSUBMITFAIL", "submit_sm failed"),
    0x48: Status("ESME_RINVSRCTON", "the source TON is invalid"),
    0x49: Status("ESME_RINVSRCNPI", "the source NPI is invalid"),
    0x50: Status("ESME_RINVDSTTON", "the destination TON is invalid"),
    0x51: Status("ESME_RINVDSTNPI", "the destination NPI is invalid"),
    0x53: Status("ESME_RINVSYSTYP", "the system type is invalid"),
    0x54: Status("ESME_RINVREPFLAG", "the replace flag is invalid"),
    0x55: Status("ESME_RINVNUMMSGS", "the number of messages is invalid"),
    0x58: Status("ESME_RTHROTTLED", "throttled: more messages than the link allows"),
    0x61: Status("ESME_RINVSCHED", "the scheduled delivery time is invalid"),
    0x62: Status("ESME_RINVEXPIRY", "the validity period is invalid"),
    0x63: Status("ESME_RINVDFTMSGID", "the predefined message is invalid or not found"),
    0x64: Status("ESME_RX_T_APPN", "the receiver has a temporary error"),
    0x65: Status("ESME_RX_P_APPN", "the receiver has a permanent error"),
    0x66: Status("ESME_RX_R_APPN", "the receiver refuses the message"),
    0x67: Status("ESME_RQUERYFAIL", "query_sm failed"),
    0xC0: Status("ESME_RINVOPTPARSTREAM", "the optional part of the body is broken"),
    0xC1: Status("ESME_ROPTPARNOTALLWD", "an optional parameter is not allowed"),
    0xC2: Status("ESME_RINVPARLEN", "a parameter has an invalid length"),
    0xC3: Status("ESME_RMISSINGOPTPARAM", "an optional parameter is missing"),
    0xC4: Status("ESME_RINVOPTPARAMVAL", "an optional parameter has an invalid value"),
    0xFE: Status("ESME_RDELIVERYFAILURE", "delivery failed"),
    0xFF: Status("ESME_RUNKNOWNERR", "unknown error"),
    # SMPP 5.0, 4.7.6
    0x0100: Status("ESME_RSERTYPUNAUTH", "not authorised to use the service type"),
    0x0101: Status("ESME_RPROHIBITED", "not authorised to use the operation"),
    0x0102: Status("ESME_RSERTYPUNAVAIL", "the service type is unavailable"),
    0x0103: Status("ESME_RSERTYPDENIED", "the service type is denied"),
    0x0104: Status("ESME_RINVDCS", "the data_coding is invalid"),
    0x0105: Status("ESME_RINVSRCADDRSUBUNIT", "the source subunit is invalid"),
    0x0106: Status("ESME_RINVDSTADDRSUBUNIT", "the destination subunit is invalid"),
    0x0107: Status("ESME_RINVBCASTFREQINT", "the broadcast interval is invalid"),
    0x0108: Status("ESME_RINVBCASTALIAS_NAME", "the broadcast alias is invalid"),
    0x0109: Status("ESME_RINVBCASTAREAFMT", "the broadcast area format is invalid"),
    0x010A: Status("ESME_RINVNUMBCAST_AREAS", "the number of broadcast areas is invalid"),
    0x010B: Status("ESME_RINVBCASTCNTTYPE", "the broadcast content type is invalid"),
    0x010C: Status("ESME_RINVBCASTMSGCLASS", "the broadcast message class is invalid"),
    0x010D: Status("ESME_RBCASTFAIL", "broadcast_sm failed"),
    0x010E: Status("ESME_RBCASTQUERYFAIL", "query_broadcast_sm failed"),
    0x010F: Status("ESME_RBCASTCANCELFAIL", "cancel_broadcast_sm failed"),
    0x0110: Status("ESME_RINVBCAST_REP", "the number of repeated broadcasts is invalid"),
    0x0111: Status("ESME_RINVBCASTSRVGRP", "the broadcast service group is invalid"),
    0x0112: Status("ESME_RINVBCASTCHANIND", "the broadcast channel indicator is invalid"),
}

THROTTLING: Final = frozenset({RTHROTTLED, RMSGQFUL})  # back off; the attempt does not count
BAD_CREDENTIALS: Final = frozenset({RBINDFAIL, RINVPASWD, RINVSYSID})  # trying again cannot help


def status_text(status: int) -> str:
    """A status as the link table shows it."""
    known = STATUSES.get(status)
    return f"0x{status:02X} {known.name}: {known.meaning}" if known else f"0x{status:02X} (the carrier's own)"


# ---- TLV tags that the code reads or writes; TLVS names them all

RECEIPTED_MESSAGE_ID: Final = 0x001E
USER_MESSAGE_REFERENCE: Final = 0x0204
SAR_MSG_REF_NUM: Final = 0x020C
SAR_TOTAL_SEGMENTS: Final = 0x020E
SAR_SEGMENT_SEQNUM: Final = 0x020F
SC_INTERFACE_VERSION: Final = 0x0210
NETWORK_ERROR_CODE: Final = 0x0423
MESSAGE_PAYLOAD: Final = 0x0424
MESSAGE_STATE: Final = 0x0427
USSD_SERVICE_OP: Final = 0x0501
ITS_SESSION_INFO: Final = 0x1383


class Tlv(NamedTuple):
    """What an optional parameter is called and holds; `octets` is None where its length varies."""

    name: str
    kind: str  # "int", "text" (C-octet string) or "octets"
    octets: int | None


TLVS: Final[dict[int, Tlv]] = {
    0x0005: Tlv("dest_addr_subunit", "int", 1),
    0x0006: Tlv("dest_network_type", "int", 1),
    0x0007: Tlv("dest_bearer_type", "int", 1),
    0x0008: Tlv("dest_telematics_id", "int", 2),
    0x000D: Tlv("source_addr_subunit", "int", 1),
    0x000E: Tlv("source_network_type", "int", 1),
    0x000F: Tlv("source_bearer_type", "int", 1),
    0x0010: Tlv("source_telematics_id", "int", 1),
    0x0017: Tlv("qos_time_to_live", "int", 4),
    0x0019: Tlv("payload_type", "int", 1),
    0x001D: Tlv("additional_status_info_text", "text", None),
    0x001E: Tlv("receipted_message_id", "text", None),
    0x0030: Tlv("ms_msg_wait_facilities", "int", 1),
    0x0201: Tlv("privacy_indicator", "int", 1),
    0x0202: Tlv("source_subaddress", "octets", None),
    0x0203: Tlv("dest_subaddress", "octets", None),
    0x0204: Tlv("user_message_reference", "int", 2),
    0x0205: Tlv("user_response_code", "int", 1),
    0x020A: Tlv("source_port", "int", 2),
    0x020B: Tlv("destination_port", "int", 2),
    0x020C: Tlv("sar_msg_ref_num", "int", 2),
    0x020D: Tlv("language_indicator", "int", 1),
    0x020E: Tlv("sar_total_segments", "int", 1),
    0x020F: Tlv("sar_segment_seqnum", "int", 1),
    0x0210: Tlv("sc_interface_version", "int", 1),
    0x0302: Tlv("callback_num_pres_ind", "int", 1),
    0x0303: Tlv("callback_num_atag", "octets", None),
    0x0304: Tlv("number_of_messages", "int", 1),
    0x0381: Tlv("callback_num", "octets", None),
    0x0420: Tlv("dpf_result", "int", 1),
    0x0421: Tlv("set_dpf", "int", 1),
    0x0422: Tlv("ms_availability_status", "int", 1),
    0x0423: Tlv("network_error_code", "octets", 3),
    0x0424: Tlv("message_payload", "octets", None),
    0x0425: Tlv("delivery_failure_reason", "int", 1),
    0x0426: Tlv("more_messages_to_send", "int", 1),
    0x0427: Tlv("message_state", "int", 1),
    0x0428: Tlv("congestion_state", "int", 1),
    0x0501: Tlv("ussd_service_op", "int", 1),
    0x0600: Tlv("broadcast_channel_indicator", "int", 1),
    0x0601: Tlv("broadcast_content_type", "octets", 3),
    0x0602: Tlv("broadcast_content_type_info", "octets", None),
    0x0603: Tlv("broadcast_message_class", "int", 1),
    0x0604: Tlv("broadcast_rep_num", "int", 2),
    0x0605: Tlv("broadcast_frequency_interval", "octets", 3),
    0x0606: Tlv("broadcast_area_identifier", "octets", None),
    0x0607: Tlv("broadcast_error_status", "int", 4),
    0x0608: Tlv("broadcast_area_success", "int", 1),
    0x0609: Tlv("broadcast_end_time", "text", 17),
    0x060A: Tlv("broadcast_service_group", "octets", None),
    0x060B: Tlv("billing_identification", "octets", None),
    0x060D: Tlv("source_network_id", "text", None),
    0x060E: Tlv("dest_network_id", "text", None),
    0x060F: Tlv("source_node_id", "octets", 6),
    0x0610: Tlv("dest_node_id", "octets", 6),
    0x0611: Tlv("dest_addr_np_resolution", "int", 1),
    0x0612: Tlv("dest_addr_np_information", "octets", 10),
    0x0613: Tlv("dest_addr_np_country", "octets", None),
    0x1201: Tlv("display_time", "int", 1),
    0x1203: Tlv("sms_signal", "int", 2),
    0x1204: Tlv("ms_validity", "octets", None),
    0x130C: Tlv("alert_on_message_delivery", "octets", None),
    0x1380: Tlv("its_reply_type", "int", 1),
    0x1383: Tlv("its_session_info", "octets", 2),
}


def tlv_name(tag: int) -> str:
    """A tag as logs and traces show it. SMPP 3.4, 5.3: 0x1400 to 0x3FFF are the vendors'."""
    known = TLVS.get(tag)
    if known:
        return known.name
    return f"vendor_0x{tag:04X}" if 0x1400 <= tag <= 0x3FFF else f"unknown_0x{tag:04X}"
