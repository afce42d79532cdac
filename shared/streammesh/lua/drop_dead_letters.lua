#!lua flags=allow-oom
-- Drops dead letters of one service for good.
-- KEYS[1] dead (HASH)  KEYS[2] dead index (ZSET)  KEYS[3] dead entries (HASH)
-- ARGV[1] and on: ids
-- Returns how many were there.
--#include _time.lua
--#include _dead.lua
local d, dropped = { dead = KEYS[1], index = KEYS[2], entries = KEYS[3] }, 0
for _, id in ipairs(ARGV) do dropped = dropped + unpark(d, id) end
return dropped
