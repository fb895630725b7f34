"""The commands, one file each; only they and the command line itself read the environment, print or exit."""
