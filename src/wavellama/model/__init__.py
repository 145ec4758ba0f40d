"""The network: configuration, architectures, modules, factory, checkpoints."""
