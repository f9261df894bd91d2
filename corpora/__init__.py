"""How a corpus is opened, read in any form, checked and told from others."""
