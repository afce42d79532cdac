-- Publishes a batch of events, all or nothing; one that was published before is answered as the first
-- time and stored no second time, for as long as its row lives.
-- KEYS[1] domains (SET)  KEYS[2] due (ZSET)  KEYS[3] due_entries (HASH)  KEYS[4] counters (HASH)
-- then per event: its row (HASH), its stream (STREAM)
-- ARGV[1] lifetime of an event's row, ms  ARGV[2] channel for changes
-- then per event: source, id, digest, domain, deliver_at (ms or ''), envelope (JSON)
-- Returns {'ok', 'new'|'duplicate', position, ...} with a pair per event, or {'conflict', index from 0}
-- when an event has an identity that another content already has: then nothing was written.
--#include _time.lua
--#include _event.lua
local now, n = now_ms(), (#KEYS - 4) / 2
local c = { domains = KEYS[1], due = KEYS[2], due_entries = KEYS[3], changed = ARGV[2], now = now, retention = tonumber(ARGV[1]) }
local seen, first = {}, {}
for i = 1, n do
  local row, a = KEYS[3 + 2 * i], 6 * i - 4
  local source, id, digest = ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]
  local who = id .. '\0' .. source
  if seen[who] then
    if seen[who] ~= digest then return { 'conflict', i - 1 } end
    first[i] = 'here'
  else
    seen[who] = digest
    local at = redis.call('HGET', row, 'at:' .. source)
    if at then
      local entry, old = string.match(at, '^(%S+) %d+ (%x+)')
      if old ~= digest then return { 'conflict', i - 1 } end
      first[i] = entry
    end
  end
end
local out, fresh, placed = { 'ok' }, 0, {}
for i = 1, n do
  local a = 6 * i - 4
  local who = ARGV[a + 2] .. '\0' .. ARGV[a + 1]
  if first[i] then
    out[2 * i], out[2 * i + 1] = 'duplicate', first[i] == 'here' and placed[who] or first[i]
  else
    local entry = store_event({
      row = KEYS[3 + 2 * i], stream = KEYS[4 + 2 * i], source = ARGV[a + 1], id = ARGV[a + 2],
      digest = ARGV[a + 3], domain = ARGV[a + 4], deliver_at = ARGV[a + 5], json = ARGV[a + 6] }, c)
    out[2 * i], out[2 * i + 1] = 'new', entry
    fresh = fresh + 1
  end
  placed[who] = out[2 * i + 1]
end
if fresh > 0 then redis.call('HINCRBY', KEYS[4], 'published', fresh) end
if fresh < n then redis.call('HINCRBY', KEYS[4], 'duplicates', n - fresh) end
return out
