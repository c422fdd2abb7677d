"""The kvm-* commands, on the generated client, each a module with parser() and main(). No rights and no rules here."""
