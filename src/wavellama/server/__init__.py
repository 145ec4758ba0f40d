"""The server: OpenAI's speech endpoints over one model that all clients share, and a page."""
