"""What measured moments mean, and the report on them."""
