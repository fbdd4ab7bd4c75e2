return tonumber(ARGV[1])
