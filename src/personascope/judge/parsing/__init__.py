"""Reading a score or a label out of what a judge said."""
