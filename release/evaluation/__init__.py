"""Quality as records: two-stage NDCG@10 on mteb's tasks and on any folder in BEIR's form; NanoBEIR; calibration."""
