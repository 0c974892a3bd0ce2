"""The command line: ``main`` finds a command, ``commands`` declares its flags, the other files do the work."""
