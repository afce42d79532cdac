-- Publishes a batch of events, all or nothing; one that was published before is answered as the first
-- time and stored no second time, for as long as its row lives.
-- KEYS domains (SET), due (ZSET), due_entries (HASH), counters (HASH), memory_row (STRING)
-- ARGS retention (lifetime of an event's row, ms), changed (channel), prefix (length of what stands before the id in
--   the key of a row), mark (percent of maxmemory)
-- identities: KEYS sets (SET each) ARGS name, content (of the event with the same number, where its row may have left;
--   none where rows stay)
-- kinds: KEYS stream (STREAM) ARGS source, domain, deliver_at (ms or '')
-- events: KEYS row (HASH) ARGS kind (its number), digest, json (the envelope)
-- Returns per event '+' (new) or '=' (a duplicate) and its position ('' where its row has left), or {'conflict', index from 0}
-- when an event has an identity that another content already has, or {'full', bytes used, maxmemory} where any of
-- them is new and the mark is reached: then nothing was written.
--#include _write.lua
--#include _time.lua
--#include _memory.lua
--#include _event.lua
local seen = {}
for _, kind in ipairs(kinds) do
  seen[kind.source] = seen[kind.source] or {}
  kind.field, kind.seen = 'at:' .. kind.source, seen[kind.source]
end
local n = #events
local known = n == 1  -- whether any row may be there; most batches are all new, and one question tells
for i = #KEYS - n + 1, n > 1 and #KEYS or 0, 1000 do
  known = known or redis.call('EXISTS', unpack(KEYS, i, math.min(i + 999, #KEYS))) > 0
end
local first, all_known = {}, true
for i, e in ipairs(events) do
  local kind = kinds[e.kind]
  local old = kind.seen[e.row]
  if old then
    first[i] = 'here'
  else
    kind.seen[e.row] = e.digest
    local at = known and redis.call('HGET', e.row, kind.field)
    if at then first[i], old = string.match(at, '^(%S+) %d+ (%x+)') end
    if at and not old then old = '' end
    local left = not at and identities[i]
    if left then
      local was = remembered(left.sets, left.name, left.content)
      if was == 'conflict' then return { 'conflict', i - 1 } end
      if was then first[i] = '' end
    end
  end
  if old and old ~= e.digest then return { 'conflict', i - 1 } end
  all_known = all_known and first[i] ~= nil
end
local now = now_ms()
if not all_known then
  local used, most = memory(memory_row, now)
  if used * 100 > most * mark then return { 'full', used, most } end
end
local c = { domains = domains, due = due, due_entries = due_entries, changed = changed, now = now, retention = retention }
local out, fresh = {}, 0
for i, e in ipairs(events) do
  local kind, entry = kinds[e.kind], first[i]
  if entry then
    if entry == 'here' then entry = kind.seen[e.row] end
    out[i] = '=' .. entry
  else
    e.stream, e.source, e.domain, e.deliver_at = kind.stream, kind.source, kind.domain, kind.deliver_at
    if e.deliver_at ~= '' then e.id = string.sub(e.row, prefix + 1) end
    entry = store_event(e, c)
    out[i] = '+' .. entry
    fresh = fresh + 1
  end
  kind.seen[e.row] = entry
end
if fresh > 0 then write('HINCRBY', counters, 'published', fresh) end
if fresh < n then write('HINCRBY', counters, 'duplicates', n - fresh) end
return out
