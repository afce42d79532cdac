-- Whether an identity was seen whose row has left: false, 'known', or 'conflict' when its content is another; and where.
-- sets: where it may lie (SET of whole numbers each); name, content: its numbers, see identity.py
local function remembered(sets, name, content)
  for _, set in ipairs(sets) do
    local is = redis.pcall('SISMEMBER', set, name)
    if is == 1 then
      if redis.call('SISMEMBER', set, content) == 1 then return 'known' end
      local mine = math.floor(tonumber(content) / 4294967296)
      for _, other in ipairs(redis.call('SMEMBERS', set)) do
        if other ~= name and math.floor((tonumber(other) or 0) / 4294967296) == mine then return 'conflict' end
      end
    end
  end
  return false
end
