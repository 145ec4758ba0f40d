"""Data sets in parquet files, with the audio in them: on a disk, in S3, of Hugging Face's Hub."""
