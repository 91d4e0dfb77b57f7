"""Forms that make themselves from the scenario's models and the policies' own fields."""
