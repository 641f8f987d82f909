"""The published colors of datasets: each label with its color, in the order of the indices."""

ADE20K = """
    wall:787878 building:b47878 sky:06e6e6 floor:503232 tree:04c803 ceiling:787850 road:8c8c8c
    bed:cc05ff windowpane:e6e6e6 grass:04fa07 cabinet:e005ff sidewalk:ebff07 person:96053d
    earth:787846 door:08ff33 table:ff0652 mountain:8fff8c plant:ccff04 curtain:ff3307
    chair:cc4603 car:0066c8 water:3de6fa painting:ff0633 sofa:0b66ff shelf:ff0747 house:ff09e0
    sea:0907e6 mirror:dcdcdc rug:ff095c field:7009ff armchair:08ffd6 seat:07ffe0 fence:ffb806
    desk:0aff47 rock:ff290a wardrobe:07ffff lamp:e0ff08 bathtub:6608ff railing:ff3d06
    cushion:ffc207 base:ff7a08 box:00ff14 column:ff0829 signboard:ff0599 chest_of_drawers:0633ff
    counter:eb0cff sand:a09614 sink:00a3ff skyscraper:8c8c8c fireplace:fa0a0f
    refrigerator:14ff00 grandstand:1fff00 path:ff1f00 stairs:ffe000 runway:99ff00 case:0000ff
    pool_table:ff4700 pillow:00ebff screen_door:00adff stairway:1f00ff river:0bc8c8
    bridge:ff5200 bookcase:00fff5 blind:003dff coffee_table:00ff70 toilet:00ff85 flower:ff0000
    book:ffa300 hill:ff6600 bench:c2ff00 countertop:008fff stove:33ff00 palm:0052ff
    kitchen_island:00ff29 computer:00ffad swivel_chair:0a00ff boat:adff00 bar:00ff99
    arcade_machine:ff5c00 hovel:ff00ff bus:ff00f5 towel:ff0066 light:ffad00 truck:ff0014
    tower:ffb8b8 chandelier:001fff awning:00ff3d streetlight:0047ff booth:ff00cc
    television_receiver:00ffc2 airplane:00ff52 dirt_track:000aff apparel:0070ff pole:3300ff
    land:00c2ff bannister:007aff escalator:00ffa3 ottoman:ff9900 bottle:00ff0a buffet:ff7000
    poster:8fff00 stage:5200ff van:a3ff00 ship:ffeb00 fountain:08b8aa conveyer_belt:8500ff
    canopy:00ff5c washer:b800ff plaything:ff001f swimming_pool:00b8ff stool:00d6ff barrel:ff0070
    basket:5cff00 waterfall:00e0ff tent:70e0ff bag:46b8a0 minibike:a300ff cradle:9900ff
    oven:47ff00 ball:ff00a3 food:ffcc00 step:ff008f tank:00ffeb trade_name:85ff00
    microwave:ff00eb pot:f500ff animal:ff007a bicycle:fff500 lake:0abed4 dishwasher:d6ff00
    screen:00ccff blanket:1400ff sculpture:ffff00 hood:0099ff sconce:0029ff vase:00ffcc
    traffic_light:2900ff tray:29ff00 ashcan:ad00ff fan:00f5ff pier:4700ff crt_screen:7a00ff
    plate:00ffb8 monitor:005cff bulletin_board:b8ff00 shower:0085ff radiator:ffd600 glass:19c2c2
    clock:66ff00 flag:5c00ff
"""  # color150.mat of CSAILVision/semantic-segmentation-pytorch
CITYSCAPES = """
    road:804080 sidewalk:f423e8 building:464646 wall:66669c fence:be9999 pole:999999
    traffic_light:faaa1e traffic_sign:dcdc00 vegetation:6b8e23 terrain:98fb98 sky:4682b4
    person:dc143c rider:ff0000 car:00008e truck:000046 bus:003c64 train:005064 motorcycle:0000e6
    bicycle:770b20
"""  # labels.py of cityscapesScripts, by training id
PASCAL_VOC = """
    background:000000 aeroplane:800000 bicycle:008000 bird:808000 boat:000080 bottle:800080
    bus:008080 car:808080 cat:400000 chair:c00000 cow:408000 diningtable:c08000 dog:400080
    horse:c00080 motorbike:408080 person:c08080 pottedplant:004000 sheep:804000 sofa:00c000
    train:80c000 tvmonitor:004080
"""  # VOC2012 development kit: the bits of the index go to R, G, B in turn
