"""Other people's teachers: their answers imported, an endpoint asked, and what it really gives."""
