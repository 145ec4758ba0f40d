"""Audio in: files, bytes and arrays become mono 16 kHz waveforms."""
