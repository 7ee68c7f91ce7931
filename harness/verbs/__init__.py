"""What the verbs of the command line do: arguments in; words and an exit status out."""
