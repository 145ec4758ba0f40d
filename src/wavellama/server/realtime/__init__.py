"""``/v1/realtime``: OpenAI's transcription sessions, over a websocket."""
