#!lua flags=allow-oom
-- Notes that a mesh was migrated by one step. Repeated, or by a second process, it changes nothing.
-- KEYS format (HASH)
-- ARGS mine (version that it has from now on), oldest (version of the oldest processes that may work beside it)
-- Returns 1 if it was noted, 0 if it stood there already, or steps before it are missing.
--#include _format.lua
if number_of('version') ~= mine - 1 then return 0 end
redis.call('HSET', format, 'version', mine, 'oldest', oldest)
return 1
