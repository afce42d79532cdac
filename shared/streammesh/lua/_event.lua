-- Stores one event; the caller has made sure that it is new.
-- e = {row, stream, id, source, digest, domain, deliver_at ('' for now), json}; `id` is asked of a held one only
-- c = {domains, due, due_entries, changed (channel), now, retention (ms)}, the same for all events of a call
-- Returns the entry's position, or 'held' for one that is delivered later. One that belongs to another shard has no domain
-- and that shard's outbox as its stream: 'sent', and nothing else is kept of it here.
--#include _write.lua
--#include _outbox.lua
--#include _identity.lua
local function store_event(e, c)
  if e.domain == '' then
    lay_out(e.stream, c.changed, 'e', e.json)
    return 'sent'
  end
  if not c.known then c.known, c.stamp, c.ttl = {}, ' ' .. digits(c.now) .. ' ', digits(c.retention) end
  local entry, ttl, wait = 'held', c.ttl, e.deliver_at ~= '' and tonumber(e.deliver_at) - c.now or 0
  if wait > 0 then
    local member = 'event:' .. e.id .. ' ' .. e.source
    write('ZADD', c.due, e.deliver_at, member)
    write('HSET', c.due_entries, member, cjson.encode({
      kind = 'event', id = e.id, source = e.source, domain = e.domain, digest = e.digest, json = e.json }))
    if redis.call('ZRANGE', c.due, 0, 0)[1] == member then redis.call('PUBLISH', c.changed, 'due') end
    ttl = digits(c.retention + wait)
  else
    entry = write('XADD', e.stream, '*', 'e', e.json)
    if not c.known[e.domain] then
      c.known[e.domain] = true
      if write('SADD', c.domains, e.domain) == 1 then redis.call('PUBLISH', c.changed, 'domains') end
    end
  end
  redis.call('HSET', e.row, 'at:' .. e.source, entry .. c.stamp .. e.digest .. ' ' .. e.domain)
  redis.call('PEXPIRE', e.row, ttl)
  return entry
end

-- Whether an event with this identity is there, or was and its row has left: false, 'known', or 'conflict' when its
-- content is another. e = {row, source, digest, sets, name, content}, the last three as in _identity.lua
local function is_stored(e)
  local at = redis.call('HGET', e.row, 'at:' .. e.source)
  if not at then return remembered(e.sets, e.name, e.content) end
  return string.match(at, '^%S+ %d+ (%x+)') == e.digest and 'known' or 'conflict'
end
