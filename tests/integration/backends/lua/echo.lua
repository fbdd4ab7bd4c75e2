-- One value of every type that a reply can hold.
return {ARGV[1], 42, false, {KEYS[1], 'nested'}}
