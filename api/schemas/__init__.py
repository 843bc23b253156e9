"""What the API says and documents, beside the verdict itself (moderation.types)."""
