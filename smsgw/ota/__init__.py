"""One file for each way to a handset's phone book; ota_push.py chooses between them."""
