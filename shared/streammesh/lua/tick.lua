#!lua flags=allow-oom
-- Publishes due ticks of schedules and moves each to its next time in one step, and only if it still
-- stands where it was read and says what was read: of several Beats one does it. A tick whose event
-- exists already is not stored again, whatever it says.
-- KEYS schedules (HASH), schedules_due (ZSET), domains (SET), due (ZSET), due_entries (HASH), counters (HASH)
-- ARGS retention (ms), changed (channel)
-- moves: ARGS schedule, read (entry as read, JSON), stood_at (ms), next_at (ms)
-- moves.ticks: KEYS row (HASH), stream (STREAM), sets (SET each, of identities) ARGS source, id, digest, domain,
--   deliver_at (ms or ''), name, content (these two of its identity), json (the envelope)
-- Returns for each schedule what became of its ticks: 'stored', 'known', or 'conflict' when an event with its identity
-- and other content is there; 'moved' alone when the schedule had moved.
--#include _time.lua
--#include _event.lua
local c = { domains = domains, due = due, due_entries = due_entries, changed = changed, now = now_ms(),
  retention = retention }
local published, answers = 0, {}
-- Whether a schedule stands where it was read.
local function stands(move)
  if redis.call('HGET', schedules, move.schedule) ~= move.read then return false end
  local stands_at = tonumber(redis.call('ZSCORE', schedules_due, move.schedule) or '-1')
  if math.floor(stands_at) ~= move.stood_at then return false end
  return true
end
for m, move in ipairs(moves) do
  local said = {}
  if not stands(move) then
    said[1] = 'moved'
  else
    for i, event in ipairs(move.ticks) do
      said[i] = is_stored(event) or 'stored'
      if said[i] == 'stored' then
        if store_event(event, c) ~= 'sent' then published = published + 1 end
      end
    end
    redis.call('ZADD', schedules_due, move.next_at, move.schedule)
  end
  answers[m] = said
end
if published > 0 then write('HINCRBY', counters, 'published', published) end
return answers
