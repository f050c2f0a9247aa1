"""The controller: reads what is known of candidates, decides by policy, and changes control."""
