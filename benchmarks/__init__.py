"""What a stream costs, side by side with the peers and with a loop written by hand: `make bench`.

A parent process (`__main__`) starts a server (`server`) and, for each row of a table, a process of
its own (`worker`), and lets these measure in turns, A B C A B C, so that what disturbs the machine
disturbs all of them. `workloads` says what is measured, `measures` how, `apis` and `decoders` who
takes part, `floors` what they are held against, `bars` what is demanded. It takes a POSIX system,
and Linux for the memory.
"""
