#!lua flags=allow-oom
-- Ends the work that an event which cancels has made, if none was added meanwhile.
-- KEYS cancelling (ZSET, of such work)
-- ARGS member, score (as it was seen)
-- Returns 1 if it is done, 0 if there is more.
--#include _write.lua
local now = write('ZSCORE', cancelling, member)
if now and now ~= score then return 0 end
redis.call('ZREM', cancelling, member)
return 1
