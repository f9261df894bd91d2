"""Parts of the web page, `app.py`; a Space holds this folder too."""
