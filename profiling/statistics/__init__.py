"""What repeats say and when they have said enough."""
