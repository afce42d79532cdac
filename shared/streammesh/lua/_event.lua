-- Stores one event; the caller has made sure that it is new.
-- e = {row, stream, id, source, digest, domain, deliver_at ('' for now), json}
-- c = {domains, due, due_entries, changed (channel), now, retention (ms)}
-- Returns the entry's position, or 'held' for one that is delivered later.
local function store_event(e, c)
  local entry = 'held'
  if e.deliver_at ~= '' and tonumber(e.deliver_at) > c.now then
    local member = 'event:' .. e.id .. ' ' .. e.source
    redis.call('ZADD', c.due, e.deliver_at, member)
    redis.call('HSET', c.due_entries, member, cjson.encode({
      kind = 'event', id = e.id, source = e.source, domain = e.domain, digest = e.digest, json = e.json }))
    if redis.call('ZRANGE', c.due, 0, 0)[1] == member then redis.call('PUBLISH', c.changed, 'due') end
  else
    entry = redis.call('XADD', e.stream, '*', 'e', e.json)
    if redis.call('SADD', c.domains, e.domain) == 1 then redis.call('PUBLISH', c.changed, 'domains') end
  end
  redis.call('HSET', e.row, 'at:' .. e.source, entry .. ' ' .. digits(c.now) .. ' ' .. e.digest .. ' ' .. e.domain)
  local ttl = c.retention
  if e.deliver_at ~= '' then ttl = ttl + math.max(0, tonumber(e.deliver_at) - c.now) end
  redis.call('PEXPIRE', e.row, digits(ttl))
  return entry
end
