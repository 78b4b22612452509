"""What a release still lacks, said in seconds, before hours are spent: rights, objects on the Hub, this machine."""
