#!lua flags=allow-oom
-- Publishes an alert about what happened since the last one, and only if that still is the last one: of several
-- schedulers one raises it.
-- KEYS[1] alerted (STRING)  KEYS[2] domains (SET)  KEYS[3] due (ZSET)  KEYS[4] due_entries (HASH)
-- KEYS[5] counters (HASH)  KEYS[6] event row (HASH)  KEYS[7] its stream (STREAM)
-- ARGV[1] until when the last alert tells, ms ('' if there was none)  ARGV[2] until when this one does, ms
-- ARGV[3] retention, ms  ARGV[4] channel for changes
-- ARGV[5] source  ARGV[6] id  ARGV[7] digest  ARGV[8] domain  ARGV[9] deliver_at ('')  ARGV[10] envelope (JSON)
-- Returns 1 if this call raised it, 0 if not.
--#include _time.lua
--#include _event.lua
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
store_event({ row = KEYS[6], stream = KEYS[7], source = ARGV[5], id = ARGV[6], digest = ARGV[7], domain = ARGV[8],
  deliver_at = ARGV[9], json = ARGV[10] }, { domains = KEYS[2], due = KEYS[3], due_entries = KEYS[4], changed = ARGV[4],
  now = now_ms(), retention = tonumber(ARGV[3]) })
write('HINCRBY', KEYS[5], 'published', 1)
return 1
