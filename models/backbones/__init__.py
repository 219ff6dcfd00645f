"""The command that makes the shipped backbones from the files that their authors published."""
