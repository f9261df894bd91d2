"""What is measured of profiles, as numbers, tables and figures: of both programs and the experiments."""
