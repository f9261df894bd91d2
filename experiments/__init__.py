"""The paper's tables and figures as commands: what is run (`plan`), run and resumed (`execution`), kept (`results`),
compared (`significance`) and shown (`render`)."""
