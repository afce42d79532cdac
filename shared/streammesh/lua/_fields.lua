-- The fields h and b of a queue entry; nothing where it is gone.
local function queued_fields(queue, entry)
  local found, h, b = redis.call('XRANGE', queue, entry, entry), nil, nil
  if #found == 0 then return nil, nil end
  local fields = found[1][2]
  for i = 1, #fields, 2 do
    if fields[i] == 'h' then h = fields[i + 1] elseif fields[i] == 'b' then b = fields[i + 1] end
  end
  return h, b
end
