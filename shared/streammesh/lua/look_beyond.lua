#!lua flags=allow-oom
-- Looks, for a run of another shard, whether an event that was published here in time may still be on its way to it.
-- KEYS stream (STREAM, of events), waking (ZSET), outbox (STREAM, for the shard of the run), routed (HASH, how far the router is)
-- ARGS service, age (ms since the last moment in time)
-- Returns {'open'}, or {now (ms), when the oldest entry of the outbox was laid there (ms), '' where there is none}: what is
-- newer than that was published too late.
--#include _time.lua
--#include _outbox.lua
--#include _under_way.lua
local now = now_ms()
if is_on_its_way(stream, routed, waking, service, moment_ago(age, now)) then return { 'open' } end
local first = write('XRANGE', outbox, '-', '+', 'COUNT', 1)[1]
return { digits(now), first and string.match(first[1], '^%d+') or '' }
