"""From runs to sentences, numbers for people, and verdicts."""
