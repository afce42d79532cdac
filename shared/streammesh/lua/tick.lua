#!lua flags=allow-oom
-- Publishes due ticks of one schedule and moves it to its next time in one step, and only if it still
-- stands where it was read and says what was read: of several Beats one does it. A tick whose event
-- exists already is not stored again, whatever it says.
-- KEYS schedules (HASH), schedules_due (ZSET), domains (SET), due (ZSET), due_entries (HASH), counters (HASH)
-- ARGS schedule, read (entry as read, JSON), stood_at (ms), next_at (ms), retention (ms), changed (channel)
-- ticks: KEYS row (HASH), stream (STREAM), sets (SET each, of identities) ARGS source, id, digest, domain,
--   deliver_at (ms or ''), name, content (these two of its identity), json (the envelope)
-- Returns per tick 'stored', 'known', or 'conflict' when an event with its identity and other content is there;
-- {'moved'} alone when the schedule had moved.
--#include _time.lua
--#include _event.lua
if redis.call('HGET', schedules, schedule) ~= read then return { 'moved' } end
local stands_at = tonumber(redis.call('ZSCORE', schedules_due, schedule) or '-1')
if math.floor(stands_at) ~= stood_at then return { 'moved' } end
local c = { domains = domains, due = due, due_entries = due_entries, changed = changed, now = now_ms(),
  retention = retention }
local published, answers = 0, {}
for i, event in ipairs(ticks) do
  answers[i] = is_stored(event) or 'stored'
  if answers[i] == 'stored' then
    store_event(event, c)
    published = published + 1
  end
end
if published > 0 then write('HINCRBY', counters, 'published', published) end
redis.call('ZADD', schedules_due, next_at, schedule)
return answers
