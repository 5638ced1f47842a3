"""openpi's own client and server, as published, in an environment of their own."""
