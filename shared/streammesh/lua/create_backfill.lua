-- Begins a backfill: kept events of a time are to be handed over to a service. A service has one at a time.
-- KEYS row (HASH, of the backfill), index (ZSET, of all backfills), running (HASH, service -> id), manifests (HASH)
-- ARGS id, service, pattern (of event types), since (ms), before (ms, '' for now), rate (tasks a second, '' for any),
--   again (of a replay: states, '' of a backfill), task (glob over names of tasks), by (who asked for it), changed (channel), listed (how many backfills are listed)
-- Returns {'begun'} | {'running', id} (another one is) | {'unknown'} (there is no such service).
--#include _time.lua
--#include _write.lua
if redis.call('HEXISTS', manifests, service) == 0 then return { 'unknown' } end
local other = write('HGET', running, service)
if other == id then return { 'begun' } end
if other then return { 'running', other } end
local now = now_ms()
if before == '' then before = digits(now + 1) end
-- The place before the first event: events are handed over in the order of their places, which name their domain too.
redis.call('HSET', row, 'service', service, 'pattern', pattern, 'since', digits(since), 'before', before, 'rate', rate, 'again', again, 'task', task, 'by', by,
  'state', 'running', 'created', digits(now), 'position', digits(since - 1) .. '-18446744073709551615~')
write('ZADD', index, digits(now), id)
redis.call('ZREMRANGEBYRANK', index, 0, -listed - 1)
write('HSET', running, service, id)
redis.call('PUBLISH', changed, 'backfills')
return { 'begun' }
