-- Publishes a batch of events, all or nothing; one that was published before is answered as the first
-- time and stored no second time, for as long as its row lives.
-- KEYS[1] domains (SET)  KEYS[2] due (ZSET)  KEYS[3] due_entries (HASH)  KEYS[4] counters (HASH)
-- KEYS[5] memory (STRING)
-- then per kind of event: its stream (STREAM); then per event: its row (HASH)
-- ARGV[1] lifetime of an event's row, ms  ARGV[2] channel for changes  ARGV[3] how many kinds
-- ARGV[4] length of what stands before the id in the key of a row  ARGV[5] mark: percent of maxmemory
-- then per kind: source, domain, deliver_at (ms or ''); then per event: kind, digest, envelope (JSON)
-- Returns per event '+' (new) or '=' (a duplicate) and its position, or {'conflict', index from 0}
-- when an event has an identity that another content already has, or {'full', bytes used, maxmemory} where any of
-- them is new and the mark is reached: then nothing was written.
--#include _write.lua
--#include _time.lua
--#include _memory.lua
--#include _event.lua
local s = tonumber(ARGV[3])
local n, rows, facts = #KEYS - 5 - s, 5 + s, 3 + 3 * s  -- of event i: KEYS[rows + i], ARGV[facts + 3 * i ...]
local kinds, seen = {}, {}
for k = 1, s do
  local source = ARGV[3 + 3 * k]
  seen[source] = seen[source] or {}
  kinds[tostring(k)] = { stream = KEYS[5 + k], source = source, domain = ARGV[4 + 3 * k], deliver_at = ARGV[5 + 3 * k],
    field = 'at:' .. source, seen = seen[source] }
end
local known = n == 1  -- whether any row may be there; most batches are all new, and one question tells
for i = rows + 1, n > 1 and #KEYS or 0, 1000 do
  known = known or redis.call('EXISTS', unpack(KEYS, i, math.min(i + 999, #KEYS))) > 0
end
local first, all_known = {}, true
for i = 1, n do
  local row, kind, digest = KEYS[rows + i], kinds[ARGV[facts + 3 * i]], ARGV[facts + 3 * i + 1]
  local old = kind.seen[row]
  if old then
    first[i] = 'here'
  else
    kind.seen[row] = digest
    local at = known and redis.call('HGET', row, kind.field)
    if at then first[i], old = string.match(at, '^(%S+) %d+ (%x+)') end
    if at and not old then old = '' end
  end
  if old and old ~= digest then return { 'conflict', i - 1 } end
  all_known = all_known and first[i] ~= nil
end
local now = now_ms()
if not all_known then
  local used, most = memory(KEYS[5], now)
  if used * 100 > most * tonumber(ARGV[5]) then return { 'full', used, most } end
end
local c = { domains = KEYS[1], due = KEYS[2], due_entries = KEYS[3], changed = ARGV[2], now = now, retention = tonumber(ARGV[1]) }
local out, fresh = {}, 0
for i = 1, n do
  local row, e, entry = KEYS[rows + i], kinds[ARGV[facts + 3 * i]], first[i]
  if entry then
    if entry == 'here' then entry = e.seen[row] end
    out[i] = '=' .. entry
  else
    e.row, e.digest, e.json = row, ARGV[facts + 3 * i + 1], ARGV[facts + 3 * i + 2]
    if e.deliver_at ~= '' then e.id = string.sub(row, ARGV[4] + 1) end
    entry = store_event(e, c)
    out[i] = '+' .. entry
    fresh = fresh + 1
  end
  e.seen[row] = entry
end
if fresh > 0 then write('HINCRBY', KEYS[4], 'published', fresh) end
if fresh < n then write('HINCRBY', KEYS[4], 'duplicates', n - fresh) end
return out
