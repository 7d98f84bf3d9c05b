"""Selection: the rule that turns scored responses into SFT rows and preference pairs."""
