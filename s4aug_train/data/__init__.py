"""From files to decoded tiles, classes, splits and crops."""
