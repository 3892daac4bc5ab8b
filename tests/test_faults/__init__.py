"""What goes wrong on the way, over real sockets: each fault has its name, and leaves no harm."""
