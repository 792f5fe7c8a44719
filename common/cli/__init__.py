"""What every command needs before it does anything: flags, errors, recipes, files. Imports nothing else of the suite."""
