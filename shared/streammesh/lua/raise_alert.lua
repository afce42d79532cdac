#!lua flags=allow-oom
-- Publishes an alert about what happened since the last one, and only if that still is the last one: of several
-- schedulers one raises it.
-- KEYS alerted (STRING), domains (SET), due (ZSET), due_entries (HASH), counters (HASH)
-- ARGS last (until when the last alert tells, ms), until_ms (until when this one does), retention (ms),
--   changed (channel)
-- events: KEYS row (HASH), stream (STREAM), sets (SET each, of identities) ARGS source, id, digest, domain,
--   deliver_at (ms or ''), name, content (these two of its identity), json (the envelope)
-- Returns 1 if this call raised it, 0 if not.
--#include _time.lua
--#include _event.lua
if (redis.call('GET', alerted) or '') ~= last then return 0 end
redis.call('SET', alerted, until_ms)
local c = { domains = domains, due = due, due_entries = due_entries, changed = changed, now = now_ms(),
  retention = retention }
for _, event in ipairs(events) do
  store_event(event, c)
  write('HINCRBY', counters, 'published', 1)
end
return 1
