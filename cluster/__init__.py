"""Starting and describing Ray clusters."""
