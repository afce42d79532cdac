#!lua flags=allow-oom
-- Publishes due ticks of one schedule and moves it to its next time in one step, and only if it still
-- stands where it was read and says what was read: of several Beats one does it. A tick whose event
-- exists already is not stored again, whatever it says.
-- KEYS[1] schedules (HASH)  KEYS[2] schedules_due (ZSET)  KEYS[3] domains (SET)  KEYS[4] due (ZSET)
-- KEYS[5] due_entries (HASH)  KEYS[6] counters (HASH)  then per tick: its event's row (HASH), its stream (STREAM)
-- ARGV[1] schedule  ARGV[2] entry as read (JSON)  ARGV[3] time it stood at, ms  ARGV[4] next time, ms
-- ARGV[5] retention, ms  ARGV[6] channel for changes
-- then per tick: source, id, digest, domain, deliver_at (''), envelope (JSON)
-- Returns per tick 'stored', 'known', or 'conflict' when an event with its identity and other content is there;
-- {'moved'} alone when the schedule had moved.
--#include _time.lua
--#include _event.lua
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return { 'moved' } end
local stands_at = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or '-1')
if math.floor(stands_at) ~= tonumber(ARGV[3]) then return { 'moved' } end
local c = { domains = KEYS[3], due = KEYS[4], due_entries = KEYS[5], changed = ARGV[6], now = now_ms(),
  retention = tonumber(ARGV[5]) }
local published, answers = 0, {}
for i = 1, (#KEYS - 6) / 2 do
  local row, a = KEYS[5 + 2 * i], 6 * i
  answers[i] = is_stored(row, ARGV[a + 1], ARGV[a + 3]) or 'stored'
  if answers[i] == 'stored' then
    store_event({ row = row, stream = KEYS[6 + 2 * i], source = ARGV[a + 1], id = ARGV[a + 2], digest = ARGV[a + 3],
      domain = ARGV[a + 4], deliver_at = ARGV[a + 5], json = ARGV[a + 6] }, c)
    published = published + 1
  end
end
if published > 0 then write('HINCRBY', KEYS[6], 'published', published) end
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
return answers
