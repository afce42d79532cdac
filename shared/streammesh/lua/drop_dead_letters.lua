#!lua flags=allow-oom
-- Drops dead letters of one service for good.
-- KEYS dead (HASH), index (ZSET), entries (HASH)
-- ARGS ids
-- Returns how many were there.
--#include _time.lua
--#include _dead.lua
local d, dropped = { dead = dead, index = index, entries = entries }, 0
for _, id in ipairs(ids) do dropped = dropped + unpark(d, id) end
return dropped
