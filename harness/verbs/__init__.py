"""What the verbs of the command line do: arguments in, values of the pipeline, words and status out."""
